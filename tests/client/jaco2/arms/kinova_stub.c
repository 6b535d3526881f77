/* Stands for the vendor's command library: the same names, types and ways of passing; records what is called.
 * Compiled by test_kinova_sdk.py, once as it is and once with -DPREFIX=Ethernet_. Where STUB_LOG names a file, every
 * call is a line of it, and a point's line has its velocities. The layouts are written down here
 * again, so that the compiler's sizes and offsets check those of ctypes. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PREFIX
#define PREFIX
#endif
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define API(name) JOIN(PREFIX, name)

struct CartesianInfo { float X, Y, Z, ThetaX, ThetaY, ThetaZ; };
struct AngularInfo { float Actuator1, Actuator2, Actuator3, Actuator4, Actuator5, Actuator6, Actuator7; };
struct FingersPosition { float Finger1, Finger2, Finger3; };
struct CartesianPosition { struct CartesianInfo Coordinates; struct FingersPosition Fingers; };
struct UserPosition {
    int Type; float Delay; struct CartesianInfo CartesianPosition; struct AngularInfo Actuators; int HandMode;
    struct FingersPosition Fingers;
};
struct Limitation { float values[9]; };
struct TrajectoryPoint {
    struct UserPosition Position; int LimitationsActive; int SynchroType; struct Limitation Limitations;
};
struct TrajectoryFIFO { unsigned TrajectoryCount; float UsedPercentage; unsigned MaxSize; };
struct SensorsInfo { float values[15]; };
struct QuickStatus { unsigned char flags[14]; };
struct KinovaDevice {
    char SerialNumber[20]; char Model[20]; int VersionMajor, VersionMinor, VersionRelease, DeviceType, DeviceID;
};
struct EthernetCommConfig {
    unsigned long localIpAddress, subnetMask, robotIpAddress; unsigned short localCmdport, localBcastPort, robotPort;
    unsigned long rxTimeOutInMs;
};

const int stub_layout[] = {
    sizeof(struct CartesianInfo), sizeof(struct AngularInfo), sizeof(struct FingersPosition),
    sizeof(struct CartesianPosition), sizeof(struct UserPosition), sizeof(struct Limitation),
    sizeof(struct TrajectoryPoint), sizeof(struct TrajectoryFIFO), sizeof(struct SensorsInfo),
    sizeof(struct QuickStatus), sizeof(struct KinovaDevice), sizeof(struct EthernetCommConfig),
    offsetof(struct UserPosition, HandMode), offsetof(struct UserPosition, Fingers),
    offsetof(struct TrajectoryPoint, LimitationsActive), offsetof(struct TrajectoryPoint, SynchroType),
    offsetof(struct TrajectoryPoint, Limitations), offsetof(struct KinovaDevice, DeviceID),
    offsetof(struct EthernetCommConfig, rxTimeOutInMs), -1};

#define MOST 100000
static const char *called[MOST];
static int calls;
static struct { const char *name; int status; int delay_us; } answers[64];
static int answers_count;

int stub_devices = 1;
float stub_position[9] = {0.1f, -0.4f, 0.3f, 0, 0, 0, 0, 0, 0};
unsigned stub_queue;
unsigned char stub_retract = 5; /* as long as MoveHome was not called */
struct TrajectoryPoint stub_point; /* the last */
struct KinovaDevice stub_chosen;
struct EthernetCommConfig stub_ethernet;

int stub_count(void) { return calls; }
const char *stub_called(int index) { return called[index]; }

void stub_answer(const char *name, int status, int delay_us) {
    for (int i = 0; i < answers_count; i++)
        if (!strcmp(answers[i].name, name)) {
            answers[i].status = status;
            answers[i].delay_us = delay_us;
            return;
        }
    answers[answers_count].name = strdup(name);
    answers[answers_count].status = status;
    answers[answers_count++].delay_us = delay_us;
}

static void write_down(const char *name) {
    static FILE *log;
    const struct CartesianInfo *to = &stub_point.Position.CartesianPosition;
    if (!log && !(getenv("STUB_LOG") && (log = fopen(getenv("STUB_LOG"), "a")))) return;
    if (strcmp(name, "SendAdvanceTrajectory"))
        fprintf(log, "%s\n", name);
    else
        fprintf(log, "%s %g %g %g %g %g %g\n", name, to->X, to->Y, to->Z, to->ThetaX, to->ThetaY, to->ThetaZ);
    fflush(log);
}

static int note(const char *name) {
    write_down(name);
    if (calls < MOST) called[calls++] = name;
    for (int i = 0; i < answers_count; i++)
        if (!strcmp(answers[i].name, name)) {
            usleep(answers[i].delay_us);
            return answers[i].status;
        }
    return 1;
}

#define SIMPLE(name) int API(name)(void) { return note(#name); }
SIMPLE(InitAPI)
SIMPLE(CloseAPI)
SIMPLE(RefresDevicesList)
SIMPLE(StartControlAPI)
SIMPLE(StopControlAPI)
SIMPLE(SetCartesianControl)
SIMPLE(EraseAllTrajectories)

int API(MoveHome)(void) { stub_retract = 1; return note("MoveHome"); }

int API(InitEthernetAPI)(struct EthernetCommConfig *config) { stub_ethernet = *config; return note("InitEthernetAPI"); }

int API(GetDevices)(struct KinovaDevice devices[20], int *result) {
    for (int i = 0; i < stub_devices; i++) {
        memset(&devices[i], 0, sizeof devices[i]);
        strcpy(devices[i].SerialNumber, i ? "PJ000000000000002" : "PJ000000000000001");
        strcpy(devices[i].Model, "Jaco2");
        devices[i].DeviceID = 40 + i;
    }
    *result = note("GetDevices");
    return stub_devices;
}

int API(SetActiveDevice)(struct KinovaDevice device) { stub_chosen = device; return note("SetActiveDevice"); }

int API(GetAPIVersion)(int response[3]) {
    response[0] = 5, response[1] = 2, response[2] = 0;
    return note("GetAPIVersion");
}

int API(SendAdvanceTrajectory)(struct TrajectoryPoint point) {
    stub_point = point;
    return note("SendAdvanceTrajectory");
}

int API(GetCartesianPosition)(struct CartesianPosition *response) {
    memcpy(response, stub_position, sizeof *response);
    return note("GetCartesianPosition");
}

int API(GetGlobalTrajectoryInfo)(struct TrajectoryFIFO *response) {
    response->TrajectoryCount = stub_queue, response->UsedPercentage = 0, response->MaxSize = 2000;
    return note("GetGlobalTrajectoryInfo");
}

int API(GetSensorsInfo)(struct SensorsInfo *response) {
    for (int i = 0; i < 15; i++) response->values[i] = 20.0f + i;
    return note("GetSensorsInfo");
}

int API(GetQuickStatus)(struct QuickStatus *response) {
    memset(response, 0, sizeof *response);
    response->flags[3] = stub_retract;
    return note("GetQuickStatus");
}
